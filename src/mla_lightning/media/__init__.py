"""Readers of images, video, audio and text: each turns one input into an array of fixed shape."""
