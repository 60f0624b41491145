"""All queries of imaging, a module per noun."""

from roost_imaging.repository.disks import Disks
from roost_imaging.repository.jobs import Jobs
from roost_imaging.repository.pages import Listing
from roost_imaging.repository.storage import StorageDomains
from roost_imaging.repository.templates import Templates

__all__ = ["Disks", "Jobs", "Listing", "StorageDomains", "Templates"]
