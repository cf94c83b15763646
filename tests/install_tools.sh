#!/bin/sh
# The programs the tests use beside Python: installed where this may be done, named where it may not.
# A test that lacks its program is SKIPPED and says which command installs it.
set -u
missing=""
command -v redis-cli >/dev/null 2>&1 || missing="$missing redis-tools"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v beanstalkd >/dev/null 2>&1 || missing="$missing beanstalkd"
command -v tclsh >/dev/null 2>&1 || missing="$missing tcl"
command -v mandoc >/dev/null 2>&1 || missing="$missing mandoc"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v strace >/dev/null 2>&1 || missing="$missing strace"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
command -v wrk >/dev/null 2>&1 || missing="$missing wrk"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-noto-color-emoji"
command -v zsh >/dev/null 2>&1 || missing="$missing zsh"
command -v fish >/dev/null 2>&1 || missing="$missing fish"
command -v influxd >/dev/null 2>&1 || missing="$missing influxdb"
command -v etcd >/dev/null 2>&1 || missing="$missing etcd-server"
command -v etcdctl >/dev/null 2>&1 || missing="$missing etcd-client"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        # The packages of InfluxDB and etcd start a service; the tests start their own, and this policy keeps services from starting
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT
        fi
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 ||
            echo "could not install$missing; the tests that need them will be skipped"
    else
        echo "the tests that need$missing will be skipped; to install: apt-get install$missing"
    fi
fi
# The packages of Node, where there is one
stamp=tests/node/node_modules/.package-lock.json
if command -v npm >/dev/null 2>&1 && [ -f tests/node/package.json ] && [ -z "$(find $stamp -newer tests/node/package.json 2>/dev/null)" ]; then
    (cd tests/node && npm install --silent --no-audit --no-fund --no-package-lock >/dev/null 2>&1 && touch node_modules/.package-lock.json) ||
        echo "npm install failed; the tests that need packages of Node will be skipped"
fi
# The frameworks that flo/contrib/ serves: some need other versions than the tests do, so they have an environment of their own
frameworks=.tools/frameworks
if [ -x .venv/bin/python ] && [ -z "$(find $frameworks/installed -newer pyproject.toml 2>/dev/null)" ]; then
    echo "installing the frameworks in $frameworks"
    .venv/bin/python -m venv $frameworks &&
        .venv/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['frameworks'], sep='\n')" >$frameworks/requirements.txt &&
        timeout 300 $frameworks/bin/pip install --quiet --disable-pip-version-check -r $frameworks/requirements.txt >/dev/null 2>&1 &&
        touch $frameworks/installed ||
        echo "pip install failed; the tests that need the frameworks will be skipped"
fi
exit 0
