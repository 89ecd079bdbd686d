"""Where to subtract: blocks ranked by gain and damage."""
