"""Run by Horizon's Python: the dialogs that read metadata definitions.

Goes through each in Chromium with a screenshot, and prints as JSON the texts
of the red messages that were seen, by dialog.
"""

import json
import sys

from playwright import sync_api

RED = '.alert-danger:visible, .toast-error:visible'


class Walk:
    def __init__(self, page, horizon, directory):
        self.page, self.horizon = page, horizon
        self.directory = directory
        self.red = {}

    def shot(self, name):
        """What the dialog shows once everything has been answered."""
        self.page.wait_for_load_state('networkidle')
        self.page.wait_for_timeout(1000)
        self.page.screenshot(path=f'{self.directory}/{name}.png')
        self.red[name] = [each.inner_text() for each
                          in self.page.query_selector_all(RED)]

    def images(self):
        self.page.goto(f'{self.horizon}/project/images')
        self.page.wait_for_selector('tr:has-text("one")')

    def action(self, label):
        """One of the menu of the image's row."""
        self.images()
        row = self.page.locator('tr:has-text("one")').first
        row.locator('button.dropdown-toggle, a.dropdown-toggle').first.click()
        row.locator(f'a:has-text("{label}"):visible').first.click()

    def step(self, label):
        """A step of a wizard, by its name at the left."""
        self.page.click(f'.nav-pills a:has-text("{label}"), '
                        f'.nav-pills li:has-text("{label}")')

    def known(self, text):
        """Something that only a definition tells."""
        self.page.wait_for_selector(f'text={text}')


def main(chromium, horizon, directory):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': 1280, 'height': 900})
        # The first pages are compiled while they are waited for.
        page.set_default_timeout(120_000)
        page.goto(f'{horizon}/auth/login/')
        # Horizon offers Update Metadata to administrators alone.
        page.fill('#id_username', 'root')
        page.fill('#id_password', 'secret')
        page.click('#loginBtn')
        page.wait_for_load_state()
        walk = Walk(page, horizon, directory)
        walk.images()
        page.click('text=Create Image')
        page.fill('input[name=name]', 'two')
        walk.step('Metadata')
        walk.known('Instance Config Data')
        walk.shot('create-image')
        walk.action('Edit Image')
        walk.step('Metadata')
        walk.known('Instance Config Data')
        walk.shot('edit-image')
        walk.action('Update Metadata')
        walk.known('Instance Config Data')
        walk.shot('update-metadata')
        page.goto(f'{horizon}/project/instances/')
        page.click('text=Launch Instance')
        walk.step('Metadata')
        walk.known('Available Metadata')
        walk.shot('launch-instance')
        browser.close()
    print(json.dumps(walk.red))


if __name__ == '__main__':
    main(*sys.argv[1:])
