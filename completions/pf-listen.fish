complete -c pf-listen -l tries -d 'More tries if an address is in use; -1: no limit' -r
complete -c pf-listen -l delay -d 'Time between two tries' -r
complete -c pf-listen -l port-file -d 'Write the bound addresses to FILE' -r -F
complete -c pf-listen -s e -l export -d 'Pass the listeners on in this protocol too; repeatable' -r -f -a "systemd\t''
einhorn\t''
server-starter\t''
unicorn\t''
nginx\t''
php-fpm\t''"
complete -c pf-listen -l add -d 'Keep every inherited listener, also those that no ADDRESS names'
complete -c pf-listen -l hold -d 'Stay, hold the listeners, and start COMMAND again if it dies'
complete -c pf-listen -s v -l verbose -d 'Print each listener on stderr'
complete -c pf-listen -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-listen -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-listen -s V -l version -d 'Print version'
