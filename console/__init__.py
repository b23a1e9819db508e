"""The `tollgate` command: one module a group of commands, composed in `console.main`."""
