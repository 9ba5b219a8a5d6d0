"""Small official distributions, made up: real file formats and layouts to try commands on."""
