"""Sources: data sets in their official files, as items that become a prepared store."""
