# shellcheck shell=bash disable=SC2034 # the scripts that source this read step_running
# Sourced by the scripts beside this folder: steps with durations, and what a step needs from Debian.

steps_passed=0
step_running=

# step TITLE COMMAND...: runs the command under a heading and says how long it took.
step() {
    local title=$1 started=$SECONDS
    shift
    step_running=$title
    printf '\n== %s\n' "$title"
    "$@"
    printf -- '-- %s: %d s\n' "$title" $((SECONDS - started))
    steps_passed=$((steps_passed + 1))
    step_running=
}

# need_packages COMMAND=PACKAGE...: installs the packages whose command (or file, if it starts with a slash) is missing.
need_packages() {
    local missing=() pair
    for pair in "$@"; do
        case ${pair%%=*} in
            /*) [[ -e ${pair%%=*} ]] || missing+=("${pair#*=}") ;;
            *) command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}") ;;
        esac
    done
    if ((${#missing[@]} == 0)); then
        echo "nothing is missing"
        return
    fi
    if ((EUID != 0)); then
        printf 'error: missing: %s\n\nhint: run as root:\n    apt-get update && apt-get install -y --no-install-recommends %s\n' \
            "${missing[*]}" "${missing[*]}" >&2
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        printf 'error: missing, and this is no Debian: %s\n' "${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_rust: refuses to start without the toolchain that rust-toolchain.toml names.
need_rust() {
    if ! command -v cargo >/dev/null; then
        cat >&2 <<'END'
error: cargo is missing: this needs Rust 1.95 or newer

hint: Debian 12 ships an older Rust. Install rustup as https://rustup.rs says (Debian 13 and later:
    apt-get install rustup), and run this again: rustup fetches the toolchain that rust-toolchain.toml names.
END
        return 1
    fi
    if ! cargo --version; then
        echo "error: the Rust toolchain that rust-toolchain.toml names cannot be used" >&2
        return 1
    fi
}
