"""All that knows of several devices: the mesh, what travels between them, and several processes."""
