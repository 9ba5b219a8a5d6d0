"""Official files of data sets -> items of a prepared store."""
