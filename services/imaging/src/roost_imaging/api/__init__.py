"""The HTTP interface of imaging, a module per noun."""

from fastapi import APIRouter

from roost_imaging.api import images, jobs, storage, templates

ROUTERS: list[APIRouter] = [storage.router, templates.router, images.router, jobs.router]
