"""MGRe: Learning multi-granularity features from multi-granularity regions (Neurocomputing 2021)."""
