# Sourced by the other scripts; run from anywhere, they work in the repository's root.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Progress goes to stderr: stdout is for what callers read.
say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

can_be_root() { [[ $(id -u) == 0 ]] || { has sudo && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }; }

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi; }

as_user() { # as_user NAME COMMAND...; needs can_be_root
  local user=$1
  shift
  if [[ $(id -u) == 0 ]]; then runuser -u "$user" -- "$@"; else sudo -u "$user" -- "$@"; fi
}

# Installs Debian packages without asking anything. Fails if this is no Debian or we may not.
apt_install() {
  has apt-get && can_be_root || return 1
  say "installing: $*"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 install --yes --no-install-recommends "$@")
  # The package lists of a fresh container are empty and those of an old one lead nowhere.
  as_root "${install[@]}" >&2 || { as_root apt-get --quiet=2 update >&2 && as_root "${install[@]}" >&2; }
}
