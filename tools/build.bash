# What tools/perilune and tools/test share: looking at the machine, and building a preset's folder. They source this
# file, set `tool` (their name in messages), and call from `lock_build` on in the clone's top folder. Everything but
# `usage` is said on standard error.

say() { echo "${tool:?}: $*" >&2; }
fail() {
  say "$@"
  exit 1
}
usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]%/*}/${tool##*/}"; }  # the tool's first comment

# `processor` and `gpu`: what a build is made for, as its stamp keeps it. No process is started: every start of the
# program looks.
look_at_machine() {
  local line='' devices file nvcc=''
  while IFS= read -r line && [[ $line != flags* && $line != Features* ]]; do :; done 2> /dev/null < /proc/cpuinfo
  processor=$line gpu=none
  devices=(/dev/nvidia[0-9]*)
  [[ -e ${devices[0]} || -e /dev/dxg ]] || return 0
  gpu=${devices[*]}
  for file in /proc/driver/nvidia/gpus/*/information; do
    IFS= read -r line 2> /dev/null < "$file" && gpu+=" $line"
  done
  if [[ -n ${CUDACXX-} ]]; then
    nvcc=$CUDACXX
  elif hash nvcc 2> /dev/null; then
    nvcc=${BASH_CMDS[nvcc]}
  elif [[ -x /usr/local/cuda/bin/nvcc ]]; then
    nvcc=/usr/local/cuda/bin/nvcc
  fi
  gpu+=" nvcc $nvcc"
  file=${nvcc%/bin/nvcc}/version.json
  [[ ! -e $file ]] || read -r -d '' -N 300 line < "$file"
  gpu+=" ${line//[$'\n\t ']/}"
}

# One build at a time in a clone: a second one waits, and then finds what the first one made.
lock_build() {
  if ! { mkdir -p build && exec 9> build/.lock; } 2> /dev/null; then
    fail "cannot write into $PWD/build - a build needs a clone that you may write to:" \
      "copy this one (cp -r) and run it there"
  fi
  flock --nonblock 9 && return
  say "another build is at work in $PWD/build - waiting for it"
  flock 9
}

# A build folder made for another place (a clone that was copied or moved), by another version or with another compiler
# than CXX is of no use to CMake.
discard_foreign_folder() {  # PRESET
  local cache=build/$1/CMakeCache.txt line home='' version='' compiler='' ours='' why=''
  [[ -e $cache ]] || return 0
  while IFS= read -r line; do
    case $line in
      CMAKE_HOME_DIRECTORY:*) home=${line#*=} ;;
      CMAKE_PROJECT_VERSION:*) version=${line#*=} ;;
      CMAKE_CXX_COMPILER:*) compiler=${line#*=} ;;
    esac
  done < "$cache"
  while IFS= read -r line; do
    [[ ! $line =~ ^project\(perilune\ VERSION\ ([0-9.]+) ]] || ours=${BASH_REMATCH[1]}
  done < CMakeLists.txt
  if [[ ! $home -ef . ]]; then
    why="was made for ${home:-another place}"
  elif [[ $version != "$ours" ]]; then
    why="was made by version ${version:-unknown}, and this is $ours"
  elif [[ -n ${CXX-} && ! $(type -P "${CXX%% *}") -ef $compiler ]]; then
    why="was made with $compiler, and CXX is $CXX"
  fi
  [[ -n $why ]] || return 0
  say "build/$1 $why: starting it afresh"
  rm -rf "build/$1"
}

free_megabytes() { df --output=avail -B 1M "$1" | tail -n 1; }

# A build takes MEGABYTES in all, less what is there already, and the compilers' temporary files.
check_room() {  # PRESET MEGABYTES
  local used=0 free needed
  [[ ! -d build/$1 ]] || used=$(du -sm "build/$1" | cut -f 1)
  needed=$(($2 > used + 50 ? $2 - used : 50))
  free=$(free_megabytes build)
  ((free >= needed)) ||
    fail "no room for the build ($((free)) MB free for $PWD/build) - it takes about $needed MB:" \
      "make room, then run this again"
  free=$(free_megabytes "${TMPDIR:-/tmp}")
  ((free >= 100)) ||
    fail "no room for the compiler's files ($((free)) MB free in ${TMPDIR:-/tmp}) - 100 MB are needed:" \
      "make room or set TMPDIR"
}

# The reason of a failure that is not the sources', from what was said and what is free now.
explain_failure() {  # LOG PRESET
  if grep -qs 'No space left on device' "$1" || (($(free_megabytes build) < 20)); then
    say "the disk is full ($(($(free_megabytes build))) MB free for $PWD/build) - make room, then run this again:" \
      "it goes on where it stopped"
  elif grep -qsE 'Killed signal terminated program|signal 9' "$1"; then
    say "the compiler was killed, probably for lack of memory -" \
      "run this again with CMAKE_BUILD_PARALLEL_LEVEL=1 before it"
  else
    say "the message is above - once it is mended, run this again: it goes on where it stopped" \
      "(rm -r build/$2 starts afresh)"
  fi
}

# Configures and shows what will be built. A folder whose own settings stand in the way (a compiler that is gone, tests
# whose libraries are) is configured once more without them; what was compiled stays.
configure() {  # PRESET CMAKE_ARGUMENTS...
  local preset=$1 log=build/$1/.configure.log old=build/$1/CMakeCache.txt
  shift
  [[ -e $old ]] || old=
  mkdir -p "build/$preset"
  if ! cmake --preset "$preset" "$@" > "$log" 2> "$log.errors" &&
     ! { [[ -n $old ]] && cmake --fresh --preset "$preset" "$@" > "$log" 2> "$log.again" &&
         say "build/$preset could not be configured as it was: its settings are the default ones again"; }; then
    cat "$log.errors" >&2
    say "configuring failed"
    explain_failure "$log.errors" "$preset"
    exit 1
  fi
  sed -n 's/^-- \(Building: .*\|A GPU is here.*\|This CPU lacks.*\)/\1/p' "$log" >&2
}

# Ninja's progress is one live line on a terminal; elsewhere a line every 20 seconds, and the compilers' messages.
compile() {  # PRESET BUILD_ARGUMENTS...
  local preset=$1 log=build/$1/.build.log line due=0
  shift
  export NINJA_STATUS='[%f/%t %es] '
  if [[ -t 2 ]]; then
    rm -f "$log"
    cmake --build --preset "$preset" "$@" >&2
  else
    cmake --build --preset "$preset" "$@" 2>&1 | tee "$log" |
      while IFS= read -r line; do
        if [[ $line =~ ^\[[0-9]+/[0-9]+\ +([0-9]+) ]]; then
          ((BASH_REMATCH[1] >= due)) || continue
          due=$((BASH_REMATCH[1] + 20))
        fi
        printf '%s\n' "$line" >&2
      done
    [[ ${PIPESTATUS[0]} == 0 ]]
  fi && return
  say "building failed"
  explain_failure "$log" "$preset"
  exit 1
}

# The stamp is as old as the start of the last good build, so that an edit made meanwhile counts.
begin_stamp() {  # PRESET
  mkdir -p "build/$1"
  look_at_machine
  printf '%s\n' "$processor" "$gpu" > "build/$1/.building"
}
finish_stamp() { mv "build/$1/.building" "build/$1/.built"; }
