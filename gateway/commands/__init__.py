"""The commands of `lockgate` beside those in gateway.__main__, one file each."""
