"""A contract plugin that refuses what holds EVIL, for who needs just one."""

SOURCE = '''
from glance_import.plugin import ImagePlugin

class Marker(ImagePlugin):
    api = 1

    def inspect(self, data):
        if b'EVIL' in data.read():
            return self.reject('It is evil.')
        return self.accept()
'''
