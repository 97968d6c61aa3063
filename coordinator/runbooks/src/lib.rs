//! The planner that needs no model: a catalogue of runbooks, as data.
