"""The eyes: pictures go in, poses come out. PyAV, MediaPipe; no web framework, no network runtime of ours.

`extraction` is the door for other rooms: it starts `worker` as a process of its own, which alone opens videos.
"""

MODEL = "pose_landmarker_full.task"
"""The extractor's model in the folder that `poseline pose-model build` makes."""
