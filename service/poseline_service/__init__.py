"""The server: pose streams in over WebSocket and HTTP, segment events out, one batch of network steps for all of them.

Rooms, top to bottom: cli > app > routes | stream > runtime | problems > playback > recordings > sessions > outbox >
tracks > scheduler | engine > metrics > errors | settings | logging | openapi. Nothing below calls up; the event loop
owns all session state, so there are no locks.
"""
