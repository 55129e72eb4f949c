//! `pf-listen --hold`: COMMAND as a child, the listeners that outlive it, and how signals are
//! passed on.

mod chain;
mod ends;
mod pid1;
mod signals;
mod support;
