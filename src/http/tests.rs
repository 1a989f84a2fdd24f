//! The whole router in this process.
