"""From records to pages: cells, tables, figures, the comparison of the papers' models, and the index."""
