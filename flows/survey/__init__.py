"""Over the windows and photos of a survey together: mosaics, zones, changes, maps, catalogs."""
