# What quickstart and run-tests share: a Python, a virtual environment, and
# Debian packages that are installed (as root) or named. Sourced by bash from
# the top of the clone; touches .quickstart/ or .tox/ there, and as root the machine.

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The first interpreter that runs and is new enough. One that only exists is
# not enough: version managers put names on PATH that fail when called.
find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
            > /dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    die "no python3 of version 3.11 or later found (Debian 12, Ubuntu 24.04" \
        "or later have one: apt-get install python3 python3-venv)"
}

# install_debian PACKAGE...: as root installs, otherwise fails and says how.
install_debian() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        printf 'missing: sudo apt-get install -y %s\n' "$*" >&2
        return 1
    fi
    say "installing $*"
    # stdin is closed and the frontend is silent: nothing here can be asked.
    DEBIAN_FRONTEND=noninteractive apt-get update -q > /dev/null < /dev/null \
        || say "apt-get update failed; trying with the lists at hand"
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
        --no-install-recommends "$@" > /dev/null < /dev/null
}

# make_venv DIR INSTALL-ARGUMENT...: a virtual environment with what pip is
# told to install. Left alone while none of the files that decide it changed.
make_venv() {
    local dir=$1 python stamp
    shift
    stamp=$(cat constraints.txt requirements.txt setup.cfg pyproject.toml \
        | sha256sum)
    stamp="$stamp $PWD $*"
    if [ "$(cat "$dir/made-from" 2> /dev/null)" = "$stamp" ]; then
        return
    fi
    python=$(find_python) || exit 1
    say "making $dir with $("$python" --version) (a minute or two)"
    if ! "$python" -c 'import ensurepip' 2> /dev/null; then
        install_debian "$("$python" -c 'import sys
print("python%d.%d-venv" % sys.version_info[:2])')" \
            || die "this python cannot make virtual environments without it"
    fi
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    "$python" -m venv "$dir" || die "python -m venv $dir failed"
    # Build tools are pinned too: pip hands PIP_CONSTRAINT to the build.
    PIP_CONSTRAINT="$PWD/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1 \
        "$dir/bin/python" -m pip install -q "$@" \
        || die "pip could not install $*; its words are above"
    echo "$stamp" > "$dir/made-from"
}
