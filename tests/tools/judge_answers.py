#!/usr/bin/env python3
"""Is every one of these answers one that this OpenAPI document allows?

    judge_answers.py openapi.json answers.json

Answers are a list of {method, path, status, media, body}; of a stream the body is the data of one event.
Prints what is wrong and exits 1. Uses the validator that scripts/setup.sh test installs.
"""
import json
import sys

from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

HERE = "urn:document"
STREAM = "text/event-stream"
EVENT = "#/components/schemas/TillCharge"


def main(document_file, answers_file):
    document = json.load(open(document_file, encoding="utf-8"))
    resource = Resource(contents=document, specification=DRAFT202012)
    registry = Registry().with_resource(HERE, resource)
    wrong = []
    for answer in json.load(open(answers_file, encoding="utf-8")):
        wrong += [(answer, why) for why in faults(document, registry, answer)]
    for answer, why in wrong:
        print(f"{answer['method']} {answer['path']} {answer['status']}: {why}\n  {answer['body'][:500]}")
    return 1 if wrong else 0


def faults(document, registry, answer):
    template = find(document, answer["path"].split("?")[0])
    if template is None or answer["method"].lower() not in document["paths"][template]:
        # What is not described is refused, in the words that every refusal has.
        if answer["status"] not in (403, 404, 405):
            return ["nothing like this is described"]
        return check(registry, "#/components/schemas/Problem", json.loads(answer["body"]))
    operation = document["paths"][template][answer["method"].lower()]
    response = operation["responses"].get(str(answer["status"]))
    if response is None:
        return ["this status is not described"]
    content = response.get("content", {})
    if not content:
        return [] if not answer["body"] else ["there should be no body"]
    media = (answer["media"] or "").split(";")[0]
    if media not in content:
        return [f"{media} is not described"]
    if media == STREAM:
        return check(registry, EVENT, json.loads(answer["body"]))
    path = ["paths", template, answer["method"].lower(), "responses", str(answer["status"])]
    path += ["content", media, "schema"]
    pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    return check(registry, f"#/{pointer}", json.loads(answer["body"]))


def find(document, path):
    parts = path.split("/")

    def fits(template):
        wanted = template.split("/")
        same = all(w == p or w.startswith("{") for w, p in zip(wanted, parts))
        return len(wanted) == len(parts) and same

    exact = [it for it in document["paths"] if it == path]
    return next(iter(exact + [it for it in document["paths"] if fits(it)]), None)


def check(registry, pointer, value):
    validator = OAS31Validator({"$ref": HERE + pointer}, registry=registry)
    return [error.message for error in validator.iter_errors(value)]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
