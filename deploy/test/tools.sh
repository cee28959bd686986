# shellcheck shell=bash
# Tools for scripts/deploy-test and scripts/dashboard-test, from where a fresh machine has them: PATH first, then a
# cache under target/ that apt-get, PyPI and npm fill once. Sourced; wants skip() from whoever sources it.

tools=${CARGO_TARGET_DIR:-$PWD/target}/deploy-tools
mkdir -p "$tools"

# promtool, prometheus and amtool out of Debian's packages, unpacked and not installed: no service starts, any user.
prometheus_tools() {
  export PATH="$PATH:$tools/apt/usr/bin"
  command -v promtool >/dev/null && command -v amtool >/dev/null && command -v prometheus >/dev/null && return
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  rm -rf "$tools/apt" "$tools/debs"
  mkdir -p "$tools/debs"
  (
    cd "$tools/debs"
    apt-get -q download prometheus prometheus-alertmanager ||
      { [ "$(id -u)" = 0 ] && apt-get -q update && apt-get -q download prometheus prometheus-alertmanager; }
  ) >"$tools/apt.log" 2>&1 || return 1
  local deb
  for deb in "$tools/debs"/*.deb; do dpkg-deb -x "$deb" "$tools/apt" || return 1; done
  command -v promtool >/dev/null && command -v amtool >/dev/null && command -v prometheus >/dev/null
}

# What requirements.txt pins, in an environment of its own: made anew when the file changes.
python_tools() {
  local stamp
  stamp=$(cksum <deploy/test/requirements.txt)
  if [ "$(cat "$tools/venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    command -v python3 >/dev/null || return 1
    rm -rf "$tools/venv"
    { python3 -m venv "$tools/venv" &&
      "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r deploy/test/requirements.txt
    } >"$tools/pip.log" 2>&1 || return 1
    echo "$stamp" >"$tools/venv/stamp"
  fi
  export PATH="$tools/venv/bin:$PATH"
}

# What package-lock.json pins. The scripts that import it are copied beside it, which is where Node looks.
npm_tools() {
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  local stamp
  stamp=$(cksum <deploy/test/package-lock.json)
  if [ "$(cat "$tools/npm/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$tools/npm" "$tools/npm.new"
    mkdir -p "$tools/npm.new"
    cp deploy/test/package.json deploy/test/package-lock.json "$tools/npm.new/"
    (cd "$tools/npm.new" && npm ci --ignore-scripts --no-audit --no-fund) >"$tools/npm.log" 2>&1 || return 1
    echo "$stamp" >"$tools/npm.new/stamp"
    mv "$tools/npm.new" "$tools/npm"
  fi
  cp deploy/test/*.mjs "$tools/npm/"
}

# Sets $chromium. A browser is too much to be unpacked by hand: as root it is installed, else it must be there.
# shellcheck disable=SC2034
browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    chromium=$(command -v "$name") && return
  done
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends chromium fonts-dejavu-core
  } >"$tools/chromium.log" 2>&1 </dev/null || return 1
  chromium=$(command -v chromium)
}
