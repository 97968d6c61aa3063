//! What a command may do: computed from the syntax tree of the shell line, by rules that are data.
