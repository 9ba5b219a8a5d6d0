"""Small imitations of official data sets, in their real file formats and layouts."""
