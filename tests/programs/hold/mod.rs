//! `pf-listen --hold`: COMMAND as a child, the listeners that outlive it, and who is told what.

mod chain;
mod ends;
mod pid1;
mod signals;
mod support;
