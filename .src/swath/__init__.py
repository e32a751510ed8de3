"""Swath: images in object storage go in, tables that can be trusted come out."""
