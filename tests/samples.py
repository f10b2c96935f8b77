"""Files of operators of earlier releases, with the paths and addresses left open."""

#: What deployments of the releases up to 3.1 have in /etc/gnocchi/api-paste.ini.
PASTE = """\
[pipeline:main]
pipeline = {main}

[composite:gnocchi+noauth]
use = egg:Paste#urlmap
/ = gnocchiversions
/v1 = gnocchiv1+noauth

[composite:gnocchi+auth]
use = egg:Paste#urlmap
/ = gnocchiversions
/v1 = gnocchiv1+auth

[pipeline:gnocchiv1+noauth]
pipeline = gnocchiv1

[pipeline:gnocchiv1+auth]
pipeline = keystone_authtoken gnocchiv1

[app:gnocchiversions]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.VersionsController

[app:gnocchiv1]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.V1Controller

[filter:keystone_authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
oslo_config_project = gnocchi

[filter:http_proxy_to_wsgi]
use = egg:oslo.middleware#http_proxy_to_wsgi
oslo_config_project = gnocchi
"""

#: gnocchi.conf of 2017, for the file driver.
FILES = """\
[DEFAULT]
debug = true
verbose = true

[api]
workers = 1

[database]
backend = sqlalchemy

[indexer]
url = {url}

[storage]
coordination_url = file://{directory}/locks
driver = file
file_basepath = {directory}/data

[cors]
allowed_origin = *
allow_credentials = false
"""
