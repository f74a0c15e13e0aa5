# bash completion of sohu: eval "$(sohu completion bash)"
_sohu_complete() {
  local command="$1" first="$2" cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
  local words="" files="" IFS=$' \t\n'
  if [[ $cur == "=" ]]; then cur=""
  elif [[ $prev == "=" ]]; then prev="${COMP_WORDS[COMP_CWORD-2]}"; fi
  COMPREPLY=()
  if (( COMP_CWORD < first )); then
    COMPREPLY=($(compgen -W "port help" -- "$cur"))
    return
  fi
  case "$command $prev" in
    "port --kind") words="a:b it's" files="" ;;
    *) case "$command" in
      port) words="--help --kind --flag" files=yes ;;
      help) words="port" files="" ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ -n $files && $cur != -* ]]; then
    IFS=$'\n'
    compopt -o filenames 2>&-
    COMPREPLY+=($(compgen -f -- "$cur"))
  fi
}
_sohu() { _sohu_complete "${COMP_WORDS[1]}" 2; }
_sohu_port() { _sohu_complete port 1; }
complete -F _sohu sohu
complete -F _sohu_port port
