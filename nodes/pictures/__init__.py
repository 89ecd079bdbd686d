"""Pictures that nodes show: drawn with matplotlib and Pillow, no host code."""
