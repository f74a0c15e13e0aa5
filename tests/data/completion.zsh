#compdef sohu port
# zsh completion of sohu: eval "$(sohu completion zsh)", after compinit
_sohu() {
  local command="$words[2]" prev="$words[CURRENT-1]" files="" first=3
  local -a values
  if [[ $service == port ]]; then command=port first=2; fi
  if (( CURRENT < first )); then
    values=('port:do it' 'help:what a command takes')
    _describe -t commands command values
    return
  fi
  if [[ $words[CURRENT] == --*=* ]]; then
    prev="${words[CURRENT]%%=*}"
    compset -P '*='
  fi
  case "$command $prev" in
    "port --kind") values=('a\:b' 'it'\''s') files="" ;;
    *) case "$command" in
      port) values=('--help:show this help message and exit' '--kind:one of '\''two'\'': $HOME `x`' '--flag:100 %% sure') files=yes ;;
      help) values=('port') files="" ;;
    esac ;;
  esac
  if (( $#values )); then _describe -t values value values; fi
  if [[ -n $files ]]; then _files; fi
}
compdef _sohu sohu port
