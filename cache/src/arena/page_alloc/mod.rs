//! Allocators of pages.
