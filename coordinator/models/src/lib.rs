//! Providers of language models behind one small trait: one file per wire, one stream of events.
