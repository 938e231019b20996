//! A frame rendered in the dark is the frame rendered in the open.
