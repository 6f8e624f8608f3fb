"""The intermediate representation. It knows no operation and no device."""
