# Set up, try, test and install hotpair. `make help` lists the targets.
#
# The targets that need anything install it first, through tests/setup: Debian packages as root, Python ones in .venv.

DESTDIR =
PREFIX = /usr/local
SYSCONFDIR = /etc
# PYTHON: an interpreter that has the packages of requirements.txt. Without it a .venv is made beside the programs.
PYTHON =
# VENV: a virtual environment that has them already (no network needed); it is linked, not copied.
VENV =
# YES=1: install without asking. N, SEED: how many random histories `make campaign` plays, and from which seed.
YES ?=
N ?= 100
SEED ?= 1

PACKAGES = python3-venv rsync openssh-client openssh-server incron cron iproute2 strace acl attr procps \
	stunnel4 openssl util-linux mandoc git vim-tiny

# what the standby's side is tried with
STANDBY = stunnel4 openssl mariadb-server postgresql slapd ldap-utils keepalived iputils-arping

# whose tables follow the master
SESSIONS = iptables nftables ipset conntrack haproxy

SHELL = /bin/sh
.SHELLFLAGS = -euc
# One shell per recipe, and variables through the environment: a path with a space or a quote stays what it is.
.ONESHELL:
export DESTDIR PREFIX SYSCONFDIR PYTHON VENV YES
.PHONY: help demo drill test lint lab lab-down bench campaign install uninstall

help:
	@cat <<'END'
	make demo       show two nodes at work (as root: real incron, cron and ssh; else two directories)
	make drill      let a master die, promote the standby, bring the old master back (as root)
	make test       run every test that can run here
	make lint       ruff, mypy, shell syntax
	make lab        leave two nodes running to play with; make lab-down removes them
	make bench      measure
	make campaign   play N=$(N) random histories of two nodes from SEED=$(SEED)
	make install    install to DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) SYSCONFDIR=$(SYSCONFDIR), with PYTHON= or VENV= if given
	make uninstall  remove what install put; configuration and state stay
	Set-up is part of each target. It asks before it installs Debian packages; YES=1 does not ask.
	END

demo:
	@tests/setup $(PACKAGES)
	tests/lab/demo

drill:
	@tests/setup $(PACKAGES) $(STANDBY) $(SESSIONS)
	tests/lab/drill

test:
	@tests/setup $(PACKAGES) $(STANDBY) $(SESSIONS)
	.venv/bin/python -m pytest -q -n 3 --dist worksteal tests/ext tests/unit
	.venv/bin/python -m pytest -q -n 3 --dist loadfile tests/lab tests/model

lint:
	@tests/setup python3-venv
	.venv/bin/ruff check .
	.venv/bin/mypy --strict lib
	.venv/bin/mypy tests
	grep -rlI --exclude='*.py' '^#!/bin/sh' .ci bin etc lib tests | xargs -n 1 /bin/sh -n

lab:
	@tests/setup $(PACKAGES)
	tests/lab/lab up --cron

lab-down:
	@tests/lab/lab down

bench:
	@tests/setup $(PACKAGES) lsyncd clsync unison
	.venv/bin/python tests/bench/bench.py

campaign:
	@tests/setup $(PACKAGES)
	.venv/bin/python tests/model/campaign.py --count "$(N)" --seed "$(SEED)"

# lib/hotpair/installed lists what lies outside lib/hotpair, for uninstall; it outlives an upgrade, so that nothing is
# forgotten. The configuration is not in it: it belongs to the administrator from the first moment.
install:
	@umask 022
	export LC_ALL=C
	home=$$DESTDIR$$PREFIX/lib/hotpair share=$$DESTDIR$$PREFIX/share etc=$$DESTDIR$$SYSCONFDIR/hotpair
	fail() { echo "install: $$*" >&2; exit 1; }
	put() { install -D -m "$$1" "$$2" "$$3"; echo "$${3#"$$DESTDIR"}" >>"$$home/installed"; }
	case $$PREFIX in /*) ;; *) fail "PREFIX=$$PREFIX does not begin with a slash: give a whole path" ;; esac
	if [ -n "$$PYTHON" ]; then
	    case $$PYTHON in /*) ;; *) fail "PYTHON=$$PYTHON does not begin with a slash: give a whole path" ;; esac
	    "$$PYTHON" -I -c 'import filelock, iniconfig, rich, sh' 2>/dev/null ||
	        fail "$$PYTHON lacks a package: $$PYTHON -m pip install -r requirements.txt"
	elif [ -n "$$VENV" ]; then
	    "$$VENV/bin/python" -I -c 'import filelock, iniconfig, rich, sh' 2>/dev/null ||
	        fail "$$VENV lacks a package: $$VENV/bin/python -m pip install -r requirements.txt"
	else
	    /usr/bin/python3 -I -c 'import ensurepip, venv' 2>/dev/null ||
	        fail "no python3-venv: apt-get install python3-venv, or give PYTHON= or VENV="
	fi

	mkdir -p "$$home" "$$DESTDIR$$PREFIX/sbin"
	rm -rf "$$home/bin" "$$home/lib" "$$home/etc"
	mkdir "$$home/bin" "$$home/lib" "$$home/etc"
	cp -R lib/hotpair "$$home/lib/"
	cp -R etc/templates "$$home/etc/"
	find "$$home/lib" -name __pycache__ -prune -exec rm -rf {} +
	for program in bin/*; do
	    name=$${program#bin/}
	    sed "1s|^#!/usr/bin/python3|#!$${PYTHON:-/usr/bin/python3}|" "$$program" >"$$home/bin/$$name"
	    chmod 755 "$$home/bin/$$name"
	    ln -sfn "../lib/hotpair/bin/$$name" "$$DESTDIR$$PREFIX/sbin/$$name"
	    echo "$$PREFIX/sbin/$$name" >>"$$home/installed"
	done
	"$${PYTHON:-/usr/bin/python3}" -m compileall -q -s "$$DESTDIR" "$$home/lib"

	[ ! -L "$$home/.venv" ] || rm "$$home/.venv"
	if [ -n "$$PYTHON" ]; then
	    rm -rf "$$home/.venv" # it would be found before the packages of PYTHON
	elif [ -n "$$VENV" ]; then
	    rm -rf "$$home/.venv"
	    ln -s "$$(realpath "$$VENV")" "$$home/.venv"
	else
	    [ -x "$$home/.venv/bin/python" ] || /usr/bin/python3 -m venv "$$home/.venv"
	    "$$home/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
	        fail "pip failed, see above: check the package index, or give VENV="
	fi

	for page in docs/man/*.[58]; do
	    [ ! -e "$$page" ] || put 644 "$$page" "$$share/man/man$${page##*.}/$${page##*/}"
	done
	for template in cron.d/* incron.d/* etc/keepalived/* etc/haproxy/*; do
	    [ -e "$$template" ] || continue
	    put 644 "$$template" "$$share/doc/hotpair/$$template"
	    sed -i "s|@SBINDIR@|$$PREFIX/sbin|g" "$$share/doc/hotpair/$$template"
	done
	mkdir -p "$$etc"
	chmod 755 "$$etc"
	(cd etc/hotpair && find . -type f) | while read -r file; do
	    mode=600
	    [ ! -x "etc/hotpair/$$file" ] || mode=700
	    if [ ! -e "$$etc/$$file" ]; then
	        install -D -m $$mode "etc/hotpair/$$file" "$$etc/$$file"
	    elif ! cmp -s "etc/hotpair/$$file" "$$etc/$$file"; then
	        install -m $$mode "etc/hotpair/$$file" "$$etc/$$file.new"
	        echo "install: kept $$etc/$$file, the new one is beside it as $${file##*/}.new"
	    fi
	done
	sort -u -o "$$home/installed" "$$home/installed"

uninstall:
	@home=$$DESTDIR$$PREFIX/lib/hotpair
	if [ ! -e "$$home/installed" ]; then
	    echo "uninstall: nothing at $$home: give the DESTDIR and PREFIX that install was given" >&2
	    exit 1
	fi
	while read -r file; do rm -f "$$DESTDIR$$file"; done <"$$home/installed"
	rm -rf "$$home"
	[ ! -d "$$DESTDIR$$PREFIX/share/doc/hotpair" ] || find "$$DESTDIR$$PREFIX/share/doc/hotpair" -type d -empty -delete
	echo "uninstall: kept $$DESTDIR$$SYSCONFDIR/hotpair and $$DESTDIR/var/lib/hotpair: they are yours to remove"
