complete -c pf-status -l watch -d 'Show it again and again, every second or at this interval (5s, 500ms)' -r
complete -c pf-status -l why -d 'Tell why a slot is as it is: what happened there last, and when' -r
complete -c pf-status -l token -d 'Present the content of this file to masters that were started with --control-token' -r -F
complete -c pf-status -l timeout -d 'How long each master may take to answer (30s, 250ms)' -r
complete -c pf-status -l json -d 'Print the status document of the control protocol, as JSON on one line'
complete -c pf-status -l metrics -d 'Print metrics in the OpenMetrics text format'
complete -c pf-status -s q -l quiet -d 'Print nothing; the exit code is the answer'
complete -c pf-status -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-status -s V -l version -d 'Print version'
