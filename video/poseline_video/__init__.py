"""The eyes: pictures go in, poses come out. PyAV, MediaPipe; no web framework, no network runtime of ours."""
