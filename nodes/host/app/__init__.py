"""The host as an application: folders, progress, version, loaders."""
