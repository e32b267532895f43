"""Run by Horizon's Python: an image is created on its page, by Chromium.

Prints, as JSON, the uploads that went from the browser to the image service.
"""

import json
import sys

from playwright import sync_api


def main(chromium, horizon, images, file, screenshot):
    uploads = []

    def note(response):
        if response.url.startswith(images):
            uploads.append([response.request.method, response.status,
                            response.url.removeprefix(images)])

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page(viewport={'width': 1280, 'height': 700})
        # The first pages are compiled while they are waited for.
        page.set_default_timeout(120_000)
        page.on('response', note)
        page.goto(f'{horizon}/auth/login/')
        page.fill('#id_username', 'ann')
        page.fill('#id_password', 'secret')
        page.click('#loginBtn')
        page.wait_for_load_state()
        page.goto(f'{horizon}/project/images')
        page.click('text=Create Image')
        page.fill('input[name=name]', 'from-horizon')
        page.set_input_files('input[type=file]', file)
        page.select_option('select[name=format]', label='Raw')
        page.click('button.btn-primary:has-text("Create Image")')
        page.wait_for_selector('tr:has-text("from-horizon") >> text=Active')
        page.screenshot(path=screenshot)
        browser.close()
    print(json.dumps(uploads))


if __name__ == '__main__':
    main(*sys.argv[1:])
