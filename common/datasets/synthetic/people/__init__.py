"""Who is in an image: identities, their poses, and how a figure is drawn."""
