"""YAML as plain values, with the line of every key; anchors, tags, merge keys and duplicate keys are refused.

What PyYAML reads silently in another way than it looks (``010`` is 8, ``1:30`` is 90) is refused as well.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainables.messages import show

YamlPath = tuple[str | int, ...]  # keys and list positions from the root


class Tree:
    """YAML as plain values (timestamps stay strings), with the line of each path; collects what is wrong."""

    def __init__(self, text: str) -> None:
        self.data: Any = None  # also after a syntax error
        self.lines: dict[YamlPath, int] = {(): 1}
        self.words: dict[YamlPath, str] = {}  # booleans as they were written
        self.problems: list[tuple[YamlPath, str, int | None]] = []
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            for line, anchor in loader.marked:
                self.problems.append(((), f"{anchor}: anchors and aliases are not allowed, write the values out", line))
            self.data = None if node is None else self._value(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            is_tab = "'\\t'" in str(error.problem)
            message = "a tab; indent with spaces" if is_tab else ", ".join(filter(None, [error.context, error.problem]))
            self.problems.append(((), " ".join(message.split()), None if mark is None else mark.line + 1))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            character: Any = error.character  # its code, as the text is no bytes
            self.problems.append(((), f"character #x{character:04x} is not allowed", line))
        except RecursionError:
            self.problems.append(((), "is nested too deeply", None))
        except (ValueError, OverflowError) as error:  # escapes beyond Unicode, absurd version numbers
            self.problems.append(((), f"is not valid YAML: {error}", None))

    def _value(self, node: yaml.Node, path: YamlPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self.problems.append((path, f"the tag {node.tag} is not allowed", line))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            if not isinstance(key, str):
                self.problems.append((path, "a key must be a word", line))
            elif key_node.tag == "tag:yaml.org,2002:merge":
                self.problems.append(((*path, key), "merge keys are not allowed, write the values out", line))
            elif key in values:
                first = self.lines[(*path, key)]
                self.problems.append(((*path, key), f"is given twice, first on line {first}", line))
            else:
                self.lines[(*path, key)] = line
                values[key] = self._value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: YamlPath) -> Any:
        build, text, line = yaml.constructor.SafeConstructor(), node.value, node.start_mark.line + 1
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            if kind == "null":
                return None
            if kind == "bool":
                self.words[path] = text
                return build.construct_yaml_bool(node)
            if kind in ("int", "float"):
                value = build.construct_yaml_int(node) if kind == "int" else build.construct_yaml_float(node)
                if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
                    self.problems.append((path, f"YAML reads {text} as {show(value)}; write that, or quote it", line))
                return value
        except (ValueError, KeyError, IndexError, OverflowError):
            self.problems.append((path, f"{show(text)} cannot be read as {kind}", line))
            return None
        if kind not in ("str", "timestamp", "value", "merge"):
            self.problems.append((path, f"the tag {node.tag} is not allowed", line))
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.problems.append((path, f"{show(text)} is not valid Unicode", line))
            return ""
        return text


class _Loader(yaml.SafeLoader):
    """Notes anchors and aliases instead of following them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.marked: list[tuple[int, str]] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self.marked.append((event.start_mark.line + 1, f"{sign}{event.anchor}"))
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            return yaml.ScalarNode("tag:yaml.org,2002:null", "", event.start_mark, event.end_mark)
        return super().compose_node(parent, index)
