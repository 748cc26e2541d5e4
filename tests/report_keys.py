"""Keys of `poseline evaluate` that were promised first and never change."""

PROMISED = {
    "frame_accuracy",
    "background_share",
    "frame_macro_f1",
    "frame_map",
    "segment_map",
    "f1",
    "start_p_ap",
    "start_delay_mean",
    "operating_point",
    "sequences",
    "seconds",
    "classes",
}
