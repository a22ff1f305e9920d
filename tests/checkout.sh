# shellcheck shell=sh disable=SC2154 # part of ./control, which sources this and has its names
# The verbs of ./control that need a checkout: noxfile.py has the developers' tasks, and here is what they need before.

newest_python() { # print the path of the newest one that can run the tests, of the PATH or pyenv's; empty: there is none
    for candidate in $NEWEST_FIRST python3 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python3; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        version=$(python_version "$path") || continue
        case " $NEWEST_FIRST " in *" python$version "*) ;; *) continue ;; esac
        if can_make_venvs "$path"; then say "${version#3.} $path"; fi
    done | sort -n -s -k 1,1 | tail -n 1 | cut -d ' ' -f 2-
}

# Unlike .venv these can't be moved with the folder: the tools' scripts name their Python by its whole path.
setup_tests() { # make .venv-test/3.x for PYTHON, else for the newest Python, where it is missing; sets tools to its bin/
    PYTHON=${PYTHON:-$(newest_python)}
    find_python
    test_venv=$root/.venv-test/$(python_version "$python")
    tools=$test_venv/bin
    mkdir -p "$root/.venv-test"
    lock_setup "$python"
    if ! is_complete "$test_venv" "$root/requirements-dev.lock" || ! works "$test_venv" ||
        ! "$tools/coverage" --version >/dev/null 2>&1; then
        say "setup: making .venv-test/${test_venv##*/} with $python" >&2
        make_venv "$python" "$test_venv" "$root/requirements-dev.lock"
    fi
    unlock_setup
}

run_nox() { # session... [-- argument...]
    setup
    setup_tests
    cd "$root" || exit "$EX_BROKE"
    # A session is to see the environment of a host, not of the one who runs it; modules are compiled once.
    unset CONFIG PYTHON CONTROL_START_TIMEOUT CONTROL_STOP_TIMEOUT PYTHONDONTWRITEBYTECODE
    exec "$tools/nox" -s "$@"
}

# As root the updater runs no code that others can write, and a developer's checkout is the developer's.
others_can_write() { # folder: the folder, what lies in it, or a folder on the way there
    loose='( ! -user 0 -o -perm /022 ! -perm -1000 )'
    folder=$1
    # shellcheck disable=SC2086 # words of find
    while [ -z "$(find "$folder" -prune $loose)" ]; do
        if [ "$folder" = / ]; then
            [ -n "$(find "$1" \( -name .git -o -name '.venv*' -o -name var \) -prune -o ! -type l $loose -print)" ]
            return
        fi
        folder=$(dirname "$folder")
    done
}

test_a_copy() { # [test's arguments...]
    copy=$(mktemp -d) || exit "$EX_BROKE"
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    mkdir "$copy/ops-updater"
    (cd "$root" && tar --exclude='./.venv*' --exclude=./var -cf - .) | (cd "$copy/ops-updater" && tar -xof -) &&
        chmod -R go-w "$copy/ops-updater" || exit "$EX_BROKE"
    say "others can write $root, and root runs no such code: testing a copy, $copy/ops-updater"
    "$copy/ops-updater/control" test "$@"
}

run_tests() { # [--quick | --system] [argument...]
    if [ "$(id -u)" -eq 0 ] && others_can_write "$root"; then
        test_a_copy "$@"
        return
    fi
    case ${1:-} in
    --quick)
        shift
        run_nox lint types quick -- "$@"
        ;;
    --system)
        if [ "$(id -u)" -ne 0 ]; then
            die "$EX_USAGE" "test --system makes users and mounts and installs packages: run it as root"
        fi
        shift
        run_nox system -- "$@"
        ;;
    *) run_nox lint types tests -- "$@" ;;
    esac
}

check_pack_words() { # the arguments of pack: exit where they are none
    while [ $# -gt 0 ]; do
        case $1 in
        --out=* | --python=* | --wheels=* | --with=* | --arch=* | --deb | -h | --help) shift ;;
        --out | --python | --wheels | --with | --arch)
            [ $# -ge 2 ] || die "$EX_USAGE" "pack $1 needs a value: ./control pack --out DIR, --with web"
            shift 2
            ;;
        *)
            die "$EX_USAGE" "pack takes --with PART, --arch ARCH, --deb, --out DIR, --python DIR and --wheels DIR" \
                "(got: $1); ./control help lists the verbs"
            ;;
        esac
    done
}

check_prove_words() { # the arguments of prove: exit where the first is no harness
    case ${1:-} in
    '' | crash | hostile | soak | mutants) ;;
    *) die "$EX_USAGE" "prove knows crash, hostile, soak and mutants (got: $*); ./control help lists the verbs" ;;
    esac
}

checkout_verb() { # verb, argument...
    checkout_verb=$1
    shift
    case $checkout_verb in
    test) run_tests "$@" ;;
    prove)
        check_prove_words "$@"
        run_nox prove -- "$@"
        ;;
    bench | dist) run_nox "$checkout_verb" -- "$@" ;;
    pack)
        check_pack_words "$@"
        setup
        exec "$interpreter" -I -m updater.packaging.pack "$@"
        ;;
    setup)
        setup_tests
        say "setup: .venv-test/${test_venv##*/} is as requirements-dev.lock wants it"
        ;;
    esac
}
