"""Alerts told to people and to their monitoring: by e-mail, by webhook, by SNMP.

``announce`` is what every alert goes through, ``courier`` delivers what it wrote down, and
``mail``, ``webhook`` and ``snmp`` know how.
"""
