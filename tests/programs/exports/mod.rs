//! Listeners exported and inherited in other protocols than systemd's: einhorn's,
//! Server::Starter's, unicorn's, nginx's, php-fpm's.

mod inherit;
mod tell;
mod workers;
