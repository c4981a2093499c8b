"""The ViTs of each library, one file each. A new file is all that a new one takes: the registry imports every one."""
