//! Arguments → config → command; the only file that prints an error and picks an exit code.

fn main() {}
