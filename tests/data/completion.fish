# fish completion of sohu: sohu completion fish | source
complete -c sohu -f
complete -c port -f
complete -c sohu -n __fish_use_subcommand -a port -d 'do it'
complete -c sohu -n "__fish_seen_subcommand_from port" -l help -d 'show this help message and exit'
complete -c sohu -n "__fish_seen_subcommand_from port" -l kind -d 'one of \'two\': $HOME `x`' -x -a 'a:b it\'s'
complete -c sohu -n "__fish_seen_subcommand_from port" -l flag -d '100 %% sure'
complete -c sohu -n "__fish_seen_subcommand_from port" -F
complete -c port -l help -d 'show this help message and exit'
complete -c port -l kind -d 'one of \'two\': $HOME `x`' -x -a 'a:b it\'s'
complete -c port -l flag -d '100 %% sure'
complete -c port -F
complete -c sohu -n __fish_use_subcommand -a help -d 'what a command takes'
complete -c sohu -n "__fish_seen_subcommand_from help" -a 'port'
