"""The command ``python -m pipeline <verb> NAME=value ...``."""

from __future__ import annotations

import os
import sys

from pipeline.driver.beside import BESIDE, show_help, submit_folder
from pipeline.driver.blends import blend
from pipeline.driver.options import VERBS, check_variables, read_options
from pipeline.driver.plan import make_plan
from pipeline.driver.verbs import bring_up_to_date, explain
from pipeline.system.console import say
from pipeline.system.errors import InputError, suggestion
from pipeline.system.processes import end_with_parent


def main() -> None:
    verb, *words = sys.argv[1:] or ["help"]
    if verb in ("-h", "--help"):
        verb = "help"
    if verb not in VERBS:
        raise InputError(f"there is no command '{verb}'{suggestion(verb, VERBS)}")
    if verb == "help":
        show_help()
        return
    options = read_options(words, os.environ)
    check_variables(options, verb)
    if os.environ.get("FORCE") and "FORCE" not in os.environ.get("FOLDWISE_MAKE", "FORCE").split():
        say(verb, "note: FORCE is set in the environment and has no effect; type it after make")
    if "FOLDWISE_MAKE" in os.environ:  # so that nothing continues if make is killed
        end_with_parent()
    if verb in BESIDE:
        BESIDE[verb](options)
    elif options.test:
        submit_folder(make_plan(options))
    elif options.blend or options.runs or verb == "blend":
        blend(options, verb)
    elif verb == "why":
        explain(make_plan(options), "submit", with_commands=False)
    elif options.plan_only:
        explain(make_plan(options), verb, with_commands=True)
    else:
        bring_up_to_date(make_plan(options), verb)
