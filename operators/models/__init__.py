"""Models: found by a reference (`reference`), described (`info`), built (`modules`) and run (`networks`)."""
