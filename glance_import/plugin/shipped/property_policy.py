"""Refuses images whose properties are not what the site wants.

Judges before a byte is read.
"""

from __future__ import annotations

from glance_import.plugin import Context
from glance_import.plugin import Image
from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option
from glance_import.plugin import Verdict


class PropertyPolicy(ImagePlugin):
    """Requires and forbids image properties, by project."""

    api = 1
    version = '1'
    options = [
        Option('required', list, [],
               help='Properties that every image must have: "os_distro" '
                    'with any value, "os_distro=debian|ubuntu" with one of '
                    'these. With a project in front, "PROJECT:os_distro", '
                    'only for the images of that project (its id).'),
        Option('forbidden', list, [],
               help='Properties that no image may have, written likewise.'),
        Option('exempt_projects', list, [],
               help='Projects (ids) whose images are not looked at.'),
    ]

    def precheck(self, image: Image, ctx: Context) -> Verdict:
        if image.owner in ctx.options.exempt_projects:
            return self.accept()
        missing = [rule for rule in self._rules(ctx.options.required, image)
                   if not self._holds(rule, image)]
        if missing:
            return self.reject(
                'The image needs the property '
                f'{self._shown(missing[0])}.', code='property.required')
        present = [rule for rule in self._rules(ctx.options.forbidden, image)
                   if self._holds(rule, image)]
        if present:
            return self.reject(
                'The image may not have the property '
                f'{self._shown(present[0])}.', code='property.forbidden')
        return self.accept()

    def _rules(self, given: list[str], image: Image
               ) -> list[tuple[str, list[str]]]:
        """(name, values; none for any) of what holds for this project."""
        rules = []
        for rule in given:
            name, _, values = rule.partition('=')
            project, colon, rest = name.partition(':')
            if colon:
                if project != image.owner:
                    continue
                name = rest
            rules.append((name.strip(),
                          [each.strip() for each in values.split('|')]
                          if values else []))
        return rules

    def _holds(self, rule: tuple[str, list[str]], image: Image) -> bool:
        name, values = rule
        if name not in image.properties:
            return False
        return not values or image.properties[name] in values

    def _shown(self, rule: tuple[str, list[str]]) -> str:
        name, values = rule
        return f'{name} ({" or ".join(values)})' if values else name
